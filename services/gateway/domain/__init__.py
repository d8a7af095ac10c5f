"""Pure decisions of the gateway: roles, pages, cursors, gaps, times."""
