"""Classification of one text or a pair: single label, several labels at once, or a real value."""
