"""The commands of ringfence-agent, one file a noun: what a person at a site types. Composes; decides nothing."""
