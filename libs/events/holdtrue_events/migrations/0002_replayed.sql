-- Who asked for a replay is not known where it is handled; the topic keeps who published what.
ALTER TABLE dead_letter DROP COLUMN replayed_by;
