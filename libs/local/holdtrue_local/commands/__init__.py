"""The commands that the group `holdtrue.commands` adds to `holdtrue`: one module each, imported when used."""
