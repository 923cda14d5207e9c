"""Records -> how they should look in MLflow. Pure: `tracking` sends what is stated here."""
