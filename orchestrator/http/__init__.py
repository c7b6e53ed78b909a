"""The hub's HTTP surface: parses, calls, answers; decides nothing. OpenAI's forms where OpenAI has one."""
