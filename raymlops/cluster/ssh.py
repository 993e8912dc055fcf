"""Commands on other machines, through the `ssh` of this one."""

from __future__ import annotations

import shlex
import subprocess
from dataclasses import dataclass
from pathlib import Path

from raymlops.cluster.files import last_lines
from raymlops.errors import ClusterError

# What ssh itself ends with; otherwise its status is that of the line.
_SSH_FAILED = 255


@dataclass(frozen=True, kw_only=True)
class Login:
    """As whom to log in, with which key, through which proxy command.

    The key that a machine shows at first is kept in `known_hosts`; if it ever shows another one,
    ssh refuses it.
    """

    user: str
    key: str | None
    proxy: str | None
    known_hosts: Path

    def run(self, host: str, line: str, *, stdin: str = "", timeout_s: float) -> str:
        """What the shell line `line` prints on `host`.

        Raises:
            ClusterError: It failed or took too long; the message ends with what it complained of.
        """
        try:
            done = subprocess.run(
                self.command(host, line),
                capture_output=True,
                text=True,
                input=stdin,
                timeout=timeout_s,
                check=True,
            )
        except subprocess.TimeoutExpired as error:
            raise ClusterError(f"{host}: `{line}` did not end in {timeout_s:.0f} s") from error
        except subprocess.CalledProcessError as error:
            failed = f"`{line}` ended with status {error.returncode}"
            what = "no way in" if error.returncode == _SSH_FAILED else failed
            complaint = last_lines(error.stderr) or "(it printed nothing)"
            raise ClusterError(f"{host}: {what}:\n{complaint}") from error
        return done.stdout

    def command(self, host: str, line: str) -> list[str]:
        """The ssh command that runs `line` on `host` as its user would at a terminal."""
        options = ["BatchMode=yes", "ConnectTimeout=10", "ServerAliveInterval=15", "LogLevel=ERROR"]
        options += ["StrictHostKeyChecking=accept-new", f"UserKnownHostsFile={self.known_hosts}"]
        if self.proxy:
            options.append(f"ProxyCommand={self.proxy}")
        if self.key:
            options += [f"IdentityFile={Path(self.key).expanduser()}", "IdentitiesOnly=yes"]
        flags = [flag for option in options for flag in ("-o", option)]
        return ["ssh", *flags, f"{self.user}@{host}", _at_a_terminal(line)]


def _at_a_terminal(line: str) -> str:
    # Where a user's PATH is set differs: a login shell reads the profile, only an interactive one
    # all of ~/.bashrc. What bash says about the missing terminal is dropped, not what `line` says.
    inner = f"source ~/.bashrc; exec 2>&3 3>&-; {line}"
    return f"exec 3>&2 2>/dev/null; exec bash --login -i -c {shlex.quote(inner)}"
