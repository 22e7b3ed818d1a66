"""One function per figure: marks in, SVG text out."""
