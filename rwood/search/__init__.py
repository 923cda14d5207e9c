"""The search of a study: Optuna proposes and judges, Ray Tune runs."""
