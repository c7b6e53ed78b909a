"""The commands of ringfence, one file a noun: what an administrator types. Composes; decides nothing."""
