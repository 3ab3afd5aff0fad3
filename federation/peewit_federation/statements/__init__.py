"""What a log may carry: `codec` (how fields become bytes), `operator` and `mediator` (the kinds of
entry), `carried` (signed statements of those who have no log), `kinds` (all of them by number)."""
