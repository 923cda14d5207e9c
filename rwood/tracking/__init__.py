"""MLflow: experiment = study, run = trial or rerun. The only room that imports mlflow.

What is on disk is the truth and MLflow a copy: every call states how a record looks now, a thread
of its own sends what is missing, and saying the same again changes nothing. If the server is away,
the study goes on; what could not be sent goes with the next start. A run that cannot be sent does
not keep the others back.
"""
