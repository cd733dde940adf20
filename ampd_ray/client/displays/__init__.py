"""How things show themselves: text for terminals, HTML for notebooks. Pure functions of plain values, no dependency."""
