package main

import "context"

func patroniSuite(ctx context.Context, e *env, r *report) {}
