"""What people see of a study while it runs: here, and from elsewhere by `rwood status`.

```
status   how far a study is, as plain data, and its words
eta      how long the rest will take
state    what a running study tells -> its status
display  a live view on a terminal, plain lines elsewhere; both leave the status on disk
```
"""
