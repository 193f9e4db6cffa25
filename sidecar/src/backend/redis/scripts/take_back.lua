
-- ARGV: id, mode. Undoes a grant that no majority shares: without a tombstone, because it may be asked for again, and
-- without a hint, because those who split a vote must not be sent into the next one together.
return let_go(ARGV[1], ARGV[2]) and 1 or 0
