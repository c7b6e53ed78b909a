"""How a decided request comes to an agent: the executor over a plan, and the requests that sites send on."""
