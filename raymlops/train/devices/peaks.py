"""What GPUs do at best, by their vendor's data sheets."""

from __future__ import annotations

from raymlops.train.spec import Precision

# By the beginning of the name that the driver tells, the longer ones first: 1e12 operations a
# second in bf16 and fp16 on tensor cores, without sparsity, and in fp32 outside of them. Sheets of
# NVIDIA; 0 where there are no such units.
_PEAKS: tuple[tuple[str, float, float, float], ...] = (
    ("NVIDIA B200", 2250.0, 2250.0, 75.0),
    ("NVIDIA H200", 989.4, 989.4, 66.9),
    ("NVIDIA H100 PCIe", 756.4, 756.4, 51.2),
    ("NVIDIA H100 NVL", 835.5, 835.5, 60.0),
    ("NVIDIA H100", 989.4, 989.4, 66.9),
    ("NVIDIA A100", 311.9, 311.9, 19.5),
    ("NVIDIA L40S", 362.0, 362.0, 91.6),
    ("NVIDIA L4", 121.0, 121.0, 30.3),
    ("Tesla V100", 0.0, 125.0, 15.7),
    ("Tesla T4", 0.0, 65.0, 8.1),
)


def known_flops_per_s(name: str, precision: Precision) -> float | None:
    """The peak of the GPU of that name, None where its sheet is not known here."""
    for beginning, bf16, fp16, fp32 in _PEAKS:
        rest = name.removeprefix(beginning)
        if rest != name and not rest[:1].isalnum():
            tera = {"bf16": bf16, "fp16": fp16, "fp32": fp32}[precision]
            return tera * 1e12 or None
    return None
