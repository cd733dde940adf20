"""What decides where jobs run: choice of worker, deployment, retry, registration of datasets."""
