/* Bounded liveness after the network has become timely: boxes 0..2 are honest, box 3 lies: it votes selectively and
 * proposes late, and acts in rounds up to SILENT. Block (round-1)*4 + proposer + 1. The graph has no cycles, so "in the
 * end" is: no stuck state, and a block that all honest boxes voted to finalize when all have passed round R. A timer fires
 * only when nothing that an honest box can do is left to do; in rounds up to PRE whenever it likes. */
#define NBL (R*4+1)
#define rnd(b) (((b)+3)/4)
#define who(b) (((b)-1)%4)
#define bit(x,i) ((x)>>(i)&1)
#define W now
#define term(r) (((r)-1)/K)
static int pc(int m){return (m&1)+((m>>1)&1)+((m>>2)&1);}
static int acts(int r){return r<=SILENT;}
static int leader(int i,int r){
#ifdef RULE_STAYS  /* the dropped rule: the leader stays while its rounds succeed */
	return W.ld[i];
#else
	return (term(r)+FIRST)%4;
#endif
}
static int voted(int i,int r){int s;for(s=0;s<4;s++)if(bit(W.V[(r-1)*4+s+1],i))return 1;return 0;}
static int f_prop(int i){int r=W.cur[i];return r<=R&&leader(i,r)==i&&W.P[(r-1)*4+i+1]==255;}
static void d_prop(int i){W.P[(W.cur[i]-1)*4+i+1]=W.last[i];}
static int okb(int i,int b){return W.cur[i]==rnd(b)&&W.P[b]!=255&&!voted(i,rnd(b))&&leader(i,rnd(b))==who(b);}
static int f_vote(int i,int b){return who(b)!=3&&okb(i,b);}
static int b_vote(int i,int b){return who(b)==3&&okb(i,b);}
static int b_prop(int b,int p){
	int r=rnd(b),x;
	if(who(b)!=3||!acts(r)||W.P[b]!=255||rnd(p)>=r)return 0;
	if(p&&pc(W.V[p])+1<3&&!W.KN[p])return 0;
#ifndef RULE_STAYS
	if(r!=rnd(p)+1&&(r-1)%K)return 0;
#endif
	for(x=rnd(p)+1;x<r;x++)if(pc(W.E[x])+1<3&&!W.KE[x])return 0;
	return 1;
}
static int f_learnN(int i,int b){return W.cur[i]==rnd(b)&&(W.V[b]==7||W.KN[b]);}
static int b_learnN(int i,int b){return W.cur[i]==rnd(b)&&acts(rnd(b))&&pc(W.V[b])==2&&!W.KN[b];}
static void d_learnN(int i,int b){int r=rnd(b);W.KN[b]|=1<<i;if(!bit(W.E[r],i))W.F[b]|=1<<i;W.cur[i]++;W.last[i]=b;}
static int f_learnE(int i){int r=W.cur[i];return r<=R&&(W.E[r]==7||W.KE[r]);}
static int b_learnE(int i){int r=W.cur[i];return r<=R&&acts(r)&&pc(W.E[r])==2&&!W.KE[r];}
static void d_learnE(int i){
#ifdef RULE_STAYS
	W.KE[W.cur[i]]|=1<<i;W.cur[i]++;W.ld[i]=(W.ld[i]+1)%4;
#else
	int t=term(W.cur[i]);                                  /* on to the first round of the next term */
	while(W.cur[i]<=R&&term(W.cur[i])==t){W.KE[W.cur[i]]|=1<<i;W.cur[i]++;}
#endif
}
static int fair(void){int i,b;for(i=0;i<3;i++){if(f_prop(i)||f_learnE(i))return 1;
	for(b=1;b<NBL;b++)if(f_vote(i,b)||f_learnN(i,b))return 1;}return 0;}
static int f_time(int i){int r=W.cur[i];return r<=R&&!bit(W.E[r],i)&&(r<=PRE||!fair());}
static void d_time(int i){
	int r=W.cur[i],t=term(r);
#ifdef RULE_STAYS
	W.E[r]|=1<<i;
#else
	while(r<=R&&term(r)==t)W.E[r++]|=1<<i;                /* its level, and all of the term above it */
#endif
}
static int good(void){
	int i,b,any=0;
	for(b=1;b<NBL;b++)if(W.F[b]==7)any=1;
	if(W.cur[0]>R&&W.cur[1]>R&&W.cur[2]>R)return any;
	for(i=0;i<3;i++)if(f_time(i))return 1;
	return fair();
}
