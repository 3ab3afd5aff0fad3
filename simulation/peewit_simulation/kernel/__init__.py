"""The simulated kernel under the stock asyncio loop: nothing in it knows what runs on it."""
