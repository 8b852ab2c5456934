"""Records web meetings with a farm of headless browsers."""
