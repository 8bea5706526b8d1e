-- What a call that is one consume answers.
if status == NOT_OURS then
  return { now, status, 1 }
elseif wait then
  return { now, status, -1 - used, wait }
end
return { now, status, used }
