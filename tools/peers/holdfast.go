package main

import (
	"context"

	"github.com/holdfast-edge/holdfast/tools/bench/load"
)

func startHoldfast(ctx context.Context, o *options, dir string) (*load.Target, func(), error) {
	s, err := load.StartSite(ctx, load.SiteOptions{Program: o.holdfast, Dir: dir, Boxes: 4})
	if err != nil {
		return nil, nil, err
	}
	return s.Target(""), s.Stop, nil
}

// startHoldfastAPI is a site that is driven through its etcd API, by etcd's own client.
func startHoldfastAPI(ctx context.Context, o *options, dir string) (*load.Target, func(), error) {
	s, err := load.StartSite(ctx, load.SiteOptions{Program: o.holdfast, Dir: dir, Boxes: 4})
	if err != nil {
		return nil, nil, err
	}
	var endpoints []string
	for _, b := range s.Boxes {
		endpoints = append(endpoints, b.Client)
	}
	t := s.Target("")
	t.Open = etcdOpen(endpoints)
	return t, s.Stop, nil
}
