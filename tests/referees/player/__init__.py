"""Plays vendors that nobody knows: from a manifest alone it makes up what they would answer.

The player answers by the request only, so that two programs which send the same requests get the
same answers, in whatever order. It runs in both: in ours, and in the CDK's environment.
"""
