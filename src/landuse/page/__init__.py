"""What pages and figures are made of: self-contained HTML, and one style of drawing."""
