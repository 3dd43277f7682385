"""What fills the sockets of :mod:`doorward.ccs.ports`, and the only home of drivers."""
