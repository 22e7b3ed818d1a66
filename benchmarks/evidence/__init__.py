"""One command that works through a plan of measurements on the device at hand and packs what came of it."""
