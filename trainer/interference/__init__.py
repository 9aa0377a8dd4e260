"""How much the tasks' gradients pull against each other, measured while training goes on."""
