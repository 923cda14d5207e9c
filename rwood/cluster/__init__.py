"""The only room that knows Ray and Optuna: one run, a search, reruns, a whole study."""
