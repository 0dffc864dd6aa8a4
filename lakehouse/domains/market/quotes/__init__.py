"""Quotes of a feed, polled or pushed, and the sliding windows over them."""
