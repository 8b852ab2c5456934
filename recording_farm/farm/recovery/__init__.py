"""What dead processes and lost nodes leave behind, resumed or finished."""
