#!lua
-- admit: make a call a task with its hold, or attach it to the task it is a retry of. Refused
-- without memory to spare, as everything that asks for more is.
-- include: tasks/lua/admission.lua
