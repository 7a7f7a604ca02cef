"""What every operator needs, whatever it computes: store, batches and their settlement, calibration, HTTP, loops."""
