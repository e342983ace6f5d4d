"""From a recipe to a trained student, in torch: data, views, networks, losses, the loop. Knows nothing of files for devices."""
