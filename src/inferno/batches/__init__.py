"""Batches: many requests handed in together, answered when there is room.

It knows neither who may call nor how a request is answered: an `Answerer` is given to it. What it
promises is that each request of an accepted batch has one result, whatever ends the process.
"""
