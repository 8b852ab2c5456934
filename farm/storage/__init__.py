"""Where files go: the places that the farm can put them to, its own store and its customers' storage."""
