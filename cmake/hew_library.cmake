# hew_library(<folder> SOURCES a.cc … DEPENDS core … LINK fmt::fmt …)
# One static library per folder; its public links are the folders it may include.
add_library(hew_flags INTERFACE)
target_include_directories(hew_flags INTERFACE ${CMAKE_SOURCE_DIR})
# By option, since CMake 3.25 does not know that nvcc speaks C++20.
target_compile_options(hew_flags INTERFACE
  $<$<COMPILE_LANGUAGE:CXX>:-std=c++20;-Wall;-Wextra;-Wpedantic;-Wshadow;-Wconversion;-Werror>)
if(HEW_CUDA)
  target_compile_definitions(hew_flags INTERFACE HEW_CUDA)
  # nvcc does not manage fmt's check of formats.
  target_compile_options(hew_flags INTERFACE
    $<$<COMPILE_LANGUAGE:CUDA>:-std=c++20;-DFMT_CONSTEVAL=;-DFMT_USE_CONSTEXPR=1;--expt-relaxed-constexpr;--extended-lambda;-Werror=all-warnings;-Xcompiler=-Wall>)
endif()
# GCC 12 warns of its own AVX-512 intrinsics wherever Eigen inlines them.
target_compile_options(hew_flags INTERFACE $<$<COMPILE_LANG_AND_ID:CXX,GNU>:-Wno-maybe-uninitialized;-Wno-uninitialized>)
# Threads split the rows of a product, so that no sum depends on their number; Eigen's own would.
target_compile_definitions(hew_flags INTERFACE EIGEN_DONT_PARALLELIZE)
if(HEW_NATIVE)
  target_compile_options(hew_flags INTERFACE $<$<COMPILE_LANGUAGE:CXX>:-march=native>)
  # Not knowing the processor, GCC 12 tunes AVX-512 code for Zen 3 and loads the operand of every
  # multiply-add again: Eigen's product then reaches 63 % of the multiply-add rate instead of 83 %.
  target_compile_options(hew_flags INTERFACE
    $<$<AND:$<COMPILE_LANG_AND_ID:CXX,GNU>,$<VERSION_LESS:$<CXX_COMPILER_VERSION>,14>>:-mtune=generic>)
endif()
if(HEW_SANITIZE)
  target_compile_options(hew_flags INTERFACE -fsanitize=address,undefined -fno-sanitize-recover=all
                                             -fno-omit-frame-pointer)
  target_link_options(hew_flags INTERFACE -fsanitize=address,undefined)
endif()
target_link_libraries(hew_flags INTERFACE fmt::fmt OpenMP::OpenMP_CXX)

function(hew_library folder)
  cmake_parse_arguments(ARG "" "" "SOURCES;DEPENDS;LINK" ${ARGN})
  add_library(hew_${folder} STATIC ${ARG_SOURCES})
  target_link_libraries(hew_${folder} PUBLIC hew_flags)
  foreach(dependency ${ARG_DEPENDS})
    target_link_libraries(hew_${folder} PUBLIC hew_${dependency})
  endforeach()
  target_link_libraries(hew_${folder} PUBLIC ${ARG_LINK})
endfunction()
