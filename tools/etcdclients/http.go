package main

import "context"

func httpSuite(ctx context.Context, e *env, r *report)    {}
func concSuite(ctx context.Context, e *env, r *report)    {}
func patroniSuite(ctx context.Context, e *env, r *report) {}
