"""What is made of a report: a form for each reader, the comparison of two, the union of several.

`reading` refuses what is no report; `facts` says what a report means, once for all forms; each form is a module.
"""
