"""What the bot joins and a stage shows: web sites, pages, people in the meeting, pictures and sound."""
