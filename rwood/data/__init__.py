"""Images in: named sets, packs, two random views, batches."""
