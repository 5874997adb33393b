#!lua flags=allow-oom
-- readmit: write a task again that the store has lost, with its holds, also over budget and without
-- memory to spare: its picture may have been ordered.
-- include: tasks/lua/admission.lua
