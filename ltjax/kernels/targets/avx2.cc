#include "../conv_sums.cc"  // compiled with the options that setup.py has for this kind of CPU
