
-- ARGV: channel, remember, attempt
return acquire(attempt(3))
