# Target hew_cudnn: cuDNN and the headers of cudnn-frontend, both looked for where they are usually
# installed and where pip puts them. Sets HEW_CUDNN to whether there are both.
set(python_sites)
find_program(HEW_PYTHON NAMES python3)
mark_as_advanced(HEW_PYTHON)
if(HEW_PYTHON)
  execute_process(
    COMMAND ${HEW_PYTHON} -c "import sysconfig; print(sysconfig.get_path('purelib'))"
    OUTPUT_VARIABLE python_sites OUTPUT_STRIP_TRAILING_WHITESPACE ERROR_QUIET)
endif()
file(GLOB venv_sites ${CMAKE_SOURCE_DIR}/.venv/lib/python3*/site-packages)
list(PREPEND python_sites ${venv_sites})
list(TRANSFORM python_sites APPEND /include OUTPUT_VARIABLE python_includes)
list(TRANSFORM python_sites APPEND /nvidia/cudnn OUTPUT_VARIABLE python_cudnn)

# Header and library of one installation: the one whose header is found first.
find_path(CUDNN_INCLUDE_DIR cudnn.h
  HINTS ${CUDAToolkit_INCLUDE_DIRS}
  PATHS ${python_cudnn} PATH_SUFFIXES include)
get_filename_component(cudnn_prefix "${CUDNN_INCLUDE_DIR}" DIRECTORY)
find_library(CUDNN_LIBRARY NAMES cudnn libcudnn.so.9
  HINTS ${cudnn_prefix} ${CUDAToolkit_LIBRARY_DIR}
  PATHS ${python_cudnn} PATH_SUFFIXES lib lib64)
# The graph API's header: older releases do not have it.
find_path(CUDNN_FRONTEND_INCLUDE_DIR cudnn_frontend/graph_interface.h
  HINTS ENV CUDNN_FRONTEND_INCLUDE_DIR
  PATHS ${venv_sites} ${CMAKE_SOURCE_DIR}/.cache/cudnn_frontend/include ${python_includes}
  PATH_SUFFIXES include)

set(HEW_CUDNN OFF)
if(NOT CUDNN_INCLUDE_DIR OR NOT CUDNN_LIBRARY)
  message(STATUS "cuDNN attention: off (no cudnn.h or libcudnn; install cuDNN 9, or set "
                 "CUDNN_INCLUDE_DIR and CUDNN_LIBRARY)")
elseif(NOT CUDNN_FRONTEND_INCLUDE_DIR)
  message(STATUS "cuDNN attention: off (no cudnn_frontend headers; run "
                 "scripts/get_cudnn_frontend.sh, or set CUDNN_FRONTEND_INCLUDE_DIR)")
else()
  set(HEW_CUDNN ON)
  message(STATUS "cuDNN attention: on (${CUDNN_LIBRARY}, ${CUDNN_FRONTEND_INCLUDE_DIR})")
  add_library(hew_cudnn INTERFACE)
  # SYSTEM: our warnings are not theirs.
  target_include_directories(hew_cudnn SYSTEM INTERFACE
    ${CUDNN_FRONTEND_INCLUDE_DIR} ${CUDNN_INCLUDE_DIR})
  # Its graphs can be written as JSON; ours are not.
  target_compile_definitions(hew_cudnn INTERFACE CUDNN_FRONTEND_SKIP_JSON_LIB)
  target_link_libraries(hew_cudnn INTERFACE ${CUDNN_LIBRARY} CUDA::cudart CUDA::nvrtc ${CMAKE_DL_LIBS})
endif()
