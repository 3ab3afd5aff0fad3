"""The demonstration: four real nodes in four processes, a whole country, a failure, a cut, a thief."""
