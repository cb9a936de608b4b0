"""From findings to what people read: tables, the page, the paper. No torch."""
