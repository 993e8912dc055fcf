"""What can be trusted, and what it costs: ledger, storage, coordination, the MLflow mirror."""
