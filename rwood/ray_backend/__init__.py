"""What Ray runs for a study: sessions, trainings, jobs, checks of nodes."""
