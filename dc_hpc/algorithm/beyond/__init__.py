"""What goes beyond the paper: measures of a clustering without labels, rules that halt it, soft resets of the net."""
