-- Fragment: where a team's slot sums what was settled while nobody told the organization of it: beside
-- the sums of the team, its keys and its users, as if it were one of them.
local UNTOLD = 'untold|'
