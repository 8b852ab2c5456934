"""What the machine does meanwhile: processes, load, memory and disks."""
