"""The nodes of the farm: which there are, what each can hold, and the numbers of their slots."""
