"""Who this agent is: its keys, its enrolment at the hub, and the certificate that it renews."""
