return redis.error_reply('x')
