-- What a call that is one consume answers.
local status = denied and DENIED or ALLOWED
if wait then
  return { now, status, -1 - used, wait }
end
return { now, status, used }
